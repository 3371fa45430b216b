"""URLs of databases, MLflow servers and checkpoint storage: validity, identity, and masking of secrets."""

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

# Whose locks keep a second launcher out.
DATABASES = ("sqlite", "postgresql", "postgresql+psycopg", "mysql", "mysql+pymysql")

PORTS = {"postgresql": "5432", "mysql": "3306"}
LOOPBACK = ("127.0.0.1", "::1")
S3_SETTINGS = frozenset({"endpoint_override", "scheme", "region"})

# Query parameters that hold one: PostgreSQL's, MySQL's, S3's, and what web servers take.
_SECRET_KEYS = r"\w*(?:password|passwd|pwd|access_key|secret_key|api_key|token|secret)"

# user:password@host, where a password may itself hold slashes, and ?password=...
_PASSWORD = re.compile(rf"://[^/@:]*:[^@]+@|[?&]{_SECRET_KEYS}=[^&]", re.IGNORECASE)

# In a text. What stands alone before the host of a web server is a token, elsewhere it is a user.
_SECRETS = re.compile(
    rf"(://[^/@:\s]*:)\S+(?=@)|(\bhttps?://)[^/@:\s]+(?=@)|([?&]{_SECRET_KEYS}=)[^&\s]+", re.IGNORECASE
)

# An @ that ends no secret: in the path of a file, or behind a user alone.
_HARMLESS = re.compile(r"[\w.+-]+://(/|[^/@:]*@[^@]*$)")

_TO_THE_HOST = re.compile(r"^([\w.+-]+://(?:[^/@:]*:)?)?.*@", re.DOTALL)


def is_database(url: str) -> bool:
    """Return whether a URL names a database that can hold a study, by its scheme."""
    return url.partition("://")[0] in DATABASES and "://" in url


def is_same_database(first: str, second: str) -> bool:
    """Return whether two URLs name the same database of a server or the same file, whoever asks and how.

    Names of hosts are compared as they are written. A study and MLflow cannot share a database: each keeps
    the version of its tables in a table `alembic_version`.
    """
    return _database_place(first) == _database_place(second)


def _database_place(url: str) -> tuple[str, str, str, str]:
    """Return kind, host, port and name of a database; of a file host and port are empty."""
    parts = urlsplit(url)
    kind, settings = parts.scheme.partition("+")[0], dict(parse_qsl(parts.query))
    if kind == "sqlite":
        return kind, "", "", str(Path(parts.path.removeprefix("/")).resolve())
    host = (parts.hostname or settings.get("host") or "localhost").lower()
    given = re.search(r":(\d+)$", parts.netloc)
    port = given[1] if given else settings.get("port") or PORTS.get(kind, "")
    return kind, "localhost" if host in LOOPBACK else host, port, parts.path


def is_checkpoint_storage(place: str) -> bool:
    """Return whether checkpoints can be kept there: a path, or s3://bucket/path with settings of pyarrow's.

    Keys belong into the environment: the place goes to every worker, and into Ray's own files.
    """
    if "://" not in place:
        return True
    parts = urlsplit(place)
    settings = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    is_plain = not (set("@:") & set(parts.netloc) or "@" in parts.query or parts.fragment)
    return parts.scheme == "s3" and bool(parts.netloc) and is_plain and settings <= S3_SETTINGS


def checkpoint_place(storage: str | None, folder: Path, *below: str) -> str:
    """Return where the checkpoints of the search lie whose folder is `folder`: there, or by its name.

    `below` are further folders in it.
    """
    if storage is None:
        return str(folder.joinpath(*below))
    if "://" not in storage:
        return str(Path(storage, folder.name, *below).resolve())
    parts = urlsplit(storage)
    return parts._replace(path="/".join((parts.path.rstrip("/"), folder.name, *below))).geturl()


def masked(text: str) -> str:
    """Return a text with the passwords of the URIs in it left out, for messages."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] or found[3]}***", text)


def masked_uri(uri: str) -> str:
    """Return what was given as a URI with no secret in it, for messages, however wrong it is written.

    All before the last @ goes but scheme and user, and with it values of secrets in the query, the fragment.
    """
    if not _HARMLESS.match(uri):
        uri = _TO_THE_HOST.sub(r"\1***@", uri)
    place, mark, _ = masked(uri).partition("#")
    return f"{place}#***" if mark else place


def holds_password(uri: str) -> bool:
    """Return whether a URI holds a password, after a colon before the host or as a query parameter."""
    return _PASSWORD.search(uri) is not None
