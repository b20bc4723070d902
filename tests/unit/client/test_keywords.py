"""Keywords that several operations take."""

import pytest

from openlaunch.client.models import checked
from openlaunch.client.operations.keywords import (
    BatchKeywords,
    CodeKeywords,
    ImageKeywords,
    ResourceKeywords,
    ServerKeywords,
    given,
)
from openlaunch.errors import Unprocessable
from openlaunch.wire.bundles import CreateModelBundleRequest
from openlaunch.wire.endpoints import CreateModelEndpointRequest
from openlaunch.wire.keys import CreateKeyRequest
from openlaunch.wire.keywords import EndpointKeywords

IMAGE = {"repository": "me/model", "tag": "1"}


def test_what_is_none_is_left_out():
    assert given(ImageKeywords, {**IMAGE, "env": None, "metadata": {}}) == {**IMAGE, "metadata": {}}


def test_an_unknown_keyword_is_refused_with_the_known_ones():
    with pytest.raises(TypeError, match=r"the keyword size is unknown; the keywords are: request_schema"):
        given(ImageKeywords, {**IMAGE, "size": "1"})


def test_a_keyword_that_is_like_another_is_taken_for_a_slip():
    with pytest.raises(TypeError, match=r"the keyword tags is unknown; did you mean tag\?"):
        given(ImageKeywords, {**IMAGE, "tags": "1"})


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (ServerKeywords, "health_fn", "give that instead of health_fn"),
        (ServerKeywords, "shutdown_fn", "a server gets a SIGTERM"),
        (ServerKeywords, "max_worker_age", "give it to create_model_endpoint or deploy"),
        (CodeKeywords, "health_fn", "give health_fn_module_path"),
        (CodeKeywords, "max_requests_per_worker", "is a setting of endpoints"),
        (EndpointKeywords, "shutdown_fn", "is a part of the bundle: give it to deploy"),
        (BatchKeywords, "health_fn", "is a part of the bundle"),
        (BatchKeywords, "max_requests_per_worker", "those of a job end with it"),
        (ResourceKeywords, "max_worker_age", "those of a job end with it"),
    ],
)
def test_a_keyword_that_replaces_workers_is_refused_with_where_it_belongs(kind, name, said):
    with pytest.raises(TypeError, match=f"the keyword {name} is unknown; .*{said}"):
        given(kind, {name: 1})


def test_a_missing_keyword_is_named():
    with pytest.raises(TypeError, match="the keyword tag is missing"):
        given(ImageKeywords, {"repository": "me/model"})


@pytest.mark.parametrize(
    ("model", "field", "name", "said"),
    [
        (CreateModelEndpointRequest, "name", "My endpoint!", "letters, digits and . _ -, at most 63"),
        (CreateModelBundleRequest, "name", "", "letters, digits and . _ -, at most 128"),
        (CreateKeyRequest, "owner", "a b", "letters, digits and . _ @ -, at most 64"),
    ],
)
def test_a_name_that_is_not_allowed_is_answered_in_words(model, field, name, said):
    with pytest.raises(Unprocessable) as caught:
        checked(model, {field: name})
    assert said in str(caught.value)
    assert "pattern" not in str(caught.value)
