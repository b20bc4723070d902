"""The real model: a random forest of scikit-learn's default size over its digits, one image of 64 floats a request.

A call costs it some milliseconds, nearly all of them for going through its trees one by one, whether it is for one
image or for thirty: most real models are like that, and it is what batching is for. It uses no BLAS, so no pool of
threads of its own disturbs the comparison.
"""

from typing import Any

_FOUR = """
 0  0  0  1 11  0  0  0
 0  0  0  7  8  0  0  0
 0  0  1 13  6  2  2  0
 0  0  7 15  0  9  8  0
 0  5 16 10  0 16  6  0
 0  4 15 16 13 16  1  0
 0  0  0  3 15 10  0  0
 0  0  0  2 16  4  0  0
"""
IMAGE = [float(pixel) for pixel in _FOUR.split()]
"""A four of the data set; what each system is asked."""


def load() -> Any:
    """Train it, which takes less than a second and gives the same model everywhere."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    images, digits = load_digits(return_X_y=True)
    return RandomForestClassifier(random_state=0).fit(images, digits)


def classify(model: Any, images: list[list[float]]) -> list[int]:
    """The digit on each image."""
    digits: list[int] = model.predict(images).tolist()
    return digits
