"""What is wrong with a bucket, and what to do about it, from the text of obstore's error.

That text itself is shown nowhere: services put into it what was signed, and obstore whole URLs.
"""

import re

_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_STATUS = re.compile(r"non-2xx status code: ([0-9]{3})")
_REGION = re.compile(r"<Region>([a-z0-9-]{1,40})</Region>|expecting '([a-z0-9-]{1,40})'")
_MISSING_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_MISSING_SETTING = re.compile(r"Missing(?: |)([A-Z][A-Za-z]{1,30})|(Account) must be specified")

_ENVIRONMENT = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, or AZURE_STORAGE_ACCOUNT_NAME "
    "and AZURE_STORAGE_ACCOUNT_KEY, in the server's environment"
)

_FILE = "that GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT names"

_PROBLEMS = [
    (
        re.compile(r"Unable to open service account file"),
        f"the file of credentials can't be read {_FILE}; look at its path, and whether the server may read it",
    ),
    (
        re.compile(r"Unable to decode service account file|pem file|[Dd]ecodeCredentials"),
        f"the file {_FILE} does not have the credentials of a service account; make new ones",
    ),
    (re.compile(r"arse source url|relative URL"), "the endpoint is not a URL; give it as https://HOST"),
    (_MISSING_BUCKET, "there is no such bucket; make it, or name another with --artifacts"),
    (
        re.compile(r"<Code>(ExpiredToken|TokenRefreshRequired)"),
        "the credentials have expired; start the server with new ones",
    ),
    (
        re.compile(r"<Code>(RequestTimeTooSkewed)"),
        "the clock of this machine differs too much from the service's; set it",
    ),
    (
        re.compile(r"latest/api/token|metadata\.google\.internal|latest/meta-data|169\.254\.169\.254"),
        f"there are no credentials; {_ENVIRONMENT}",
    ),
    (_MISSING_SETTING, f"the credentials are not complete; {_ENVIRONMENT}"),
    (
        re.compile(
            r"<Code>(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|AuthenticationFailed|InvalidSecurity)"
            r"|status code: 401|Invalid Access Key"
        ),
        f"the credentials are not valid there; {_ENVIRONMENT}",
    ),
    (
        re.compile(
            r"<Code>(AuthorizationHeaderMalformed|PermanentRedirect|IllegalLocation)|configured region"
        ),
        "the bucket is in another region; set AWS_REGION to it",
    ),
    (
        re.compile(r"status code: 403"),
        "access is denied; the credentials need the rights to write, read, list and delete below the prefix",
    ),
    (re.compile(r"status code: 412|PreconditionFailed"), "it was replaced while it was read; read it again"),
    (
        re.compile(r"<Code>SlowDown|status code: (429|503)"),
        "the service has too much to do or is away; wait, and look at its status",
    ),
    (re.compile(r"status code: 5[0-9][0-9]"), "the service fails; look at its status"),
    (
        re.compile(r"dns error|failed to lookup address"),
        "the name of its host can't be resolved; look at the endpoint and the network",
    ),
    (
        re.compile(r"certificate|UnknownIssuer|InvalidContentType|CorruptMessage"),
        "TLS fails; look whether the endpoint speaks HTTPS, and name who signed its certificate in SSL_CERT_FILE",
    ),
    (
        re.compile(r"kind: Timeout|TimedOut|timed out"),
        "it does not answer in time; look at the endpoint and the network",
    ),
    (
        re.compile(r"kind: Connect|Connection refused|error sending request"),
        "it can't be reached; look at the endpoint and the network",
    ),
    (
        re.compile(r"MissingEtag|Metadata|InvalidDeleteObjectsResponse|InvalidListResponse"),
        "what answers is not such a service; look at the endpoint",
    ),
]


def is_bucket_missing(text: str) -> bool:
    """Return whether an error says that there is no such bucket."""
    return _MISSING_BUCKET.search(text) is not None


def problem_of(text: str) -> str:
    """Return a sentence for an error; it holds nothing of the text but a code or a region."""
    code = next((m[1] for pattern in (_CODE, _STATUS) if (m := pattern.search(text))), "")
    unknown = "it can't be used; look at the endpoint and the credentials in the server's environment"
    sentence = next((said for pattern, said in _PROBLEMS if pattern.search(text)), unknown)
    if region := _REGION.search(text):
        sentence += f" ({region[1] or region[2]})"
    return f"{sentence} ({code})" if code else sentence
