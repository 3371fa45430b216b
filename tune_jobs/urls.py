"""URLs of databases, MLflow servers and checkpoint storage: validation, comparison, masking of secrets."""

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

# Databases whose locks prevent a second launcher of the same search.
DATABASES = ("sqlite", "postgresql", "postgresql+psycopg", "mysql", "mysql+pymysql")

PORTS = {"postgresql": "5432", "mysql": "3306"}
LOOPBACK = ("127.0.0.1", "::1")
S3_SETTINGS = frozenset({"endpoint_override", "scheme", "region"})

# Query parameters that hold a secret, of PostgreSQL, MySQL, S3 and web servers.
_SECRET_KEYS = r"\w*(?:password|passwd|pwd|access_key|secret_key|api_key|token|secret)"

# user:password@host, where the password can contain slashes, and ?password=...
_PASSWORD = re.compile(rf"://[^/@:]*:[^@]+@|[?&]{_SECRET_KEYS}=[^&]", re.IGNORECASE)

# Secrets in a text. A name without a password is a token before the host of a web server, else a user.
_SECRETS = re.compile(
    rf"(://[^/@:\s]*:)\S+(?=@)|(\bhttps?://)[^/@:\s]+(?=@)|([?&]{_SECRET_KEYS}=)[^&\s]+", re.IGNORECASE
)

# URLs whose @ does not end a secret: it is in the path of a file, or follows a user without a password.
_HARMLESS = re.compile(r"[\w.+-]+://(/|[^/@:]*@[^@]*$)")

_BEFORE_HOST = re.compile(r"^([\w.+-]+://(?:[^/@:]*:)?)?.*@", re.DOTALL)


def is_database(url: str) -> bool:
    """Return whether the scheme of a URL is that of a database that can store a study."""
    return url.partition("://")[0] in DATABASES and "://" in url


def is_same_database(first: str, second: str) -> bool:
    """Return whether two URLs name the same database, ignoring users, passwords and drivers.

    Host names are compared as text, except that loopback addresses equal localhost. A study and MLflow cannot
    share a database, because both store the version of their tables in a table `alembic_version`.
    """
    return _database_place(first) == _database_place(second)


def _database_place(url: str) -> tuple[str, str, str, str]:
    """Return the type, host, port and name of a database; host and port are empty for a file."""
    parts = urlsplit(url)
    kind, settings = parts.scheme.partition("+")[0], dict(parse_qsl(parts.query))
    if kind == "sqlite":
        return kind, "", "", str(Path(parts.path.removeprefix("/")).resolve())
    host = (parts.hostname or settings.get("host") or "localhost").lower()
    given = re.search(r":(\d+)$", parts.netloc)
    port = given[1] if given else settings.get("port") or PORTS.get(kind, "")
    return kind, "localhost" if host in LOOPBACK else host, port, parts.path


def is_checkpoint_storage(place: str) -> bool:
    """Return whether checkpoints can be stored at `place`: a path, or s3://bucket/path with pyarrow settings.

    Access keys are rejected, because the place is sent to every worker and stored in Ray's files. They belong
    in the environment.
    """
    if "://" not in place:
        return True
    parts = urlsplit(place)
    settings = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    is_plain = not (set("@:") & set(parts.netloc) or "@" in parts.query or parts.fragment)
    return parts.scheme == "s3" and bool(parts.netloc) and is_plain and settings <= S3_SETTINGS


def checkpoint_place(storage: str | None, folder: Path, *below: str) -> str:
    """Return the location of a search's checkpoints: `folder`, or a folder of the same name in `storage`.

    `below` appends subfolders.
    """
    if storage is None:
        return str(folder.joinpath(*below))
    if "://" not in storage:
        return str(Path(storage, folder.name, *below).resolve())
    parts = urlsplit(storage)
    return parts._replace(path="/".join((parts.path.rstrip("/"), folder.name, *below))).geturl()


def masked(text: str) -> str:
    """Return a text with the secrets of all URIs in it masked, for messages."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] or found[3]}***", text)


def masked_uri(uri: str) -> str:
    """Return a URI, possibly malformed, with all secrets masked, for messages.

    Everything before the last @ except scheme and user is masked, as are secrets in the query and the
    fragment.
    """
    if not _HARMLESS.match(uri):
        uri = _BEFORE_HOST.sub(r"\1***@", uri)
    place, mark, _ = masked(uri).partition("#")
    return f"{place}#***" if mark else place


def holds_password(uri: str) -> bool:
    """Return whether a URI contains a password, before the host or as a query parameter."""
    return _PASSWORD.search(uri) is not None
