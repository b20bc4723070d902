"""How a task ends whose input was refused."""

REFUSED_STATUS_CODE = 422
