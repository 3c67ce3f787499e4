"""Where the objects of a lake are: in a folder of this machine, or under ``s3://bucket/prefix`` in an object store.

Only this module knows the difference. An object store is reached by the variables that AWS's own tools read:
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_REGION`` (or ``AWS_DEFAULT_REGION``), and
``AWS_ENDPOINT_URL`` for one that is not AWS. Credentials stay in the environment and in memory; nothing writes them.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import duckdb
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from pyarrow import fs

from lake.commits import damage, empty_commit
from lake.errors import Damaged, LakeError, ObjectStoreError, UnusableRoot
from lake.listing import listed

SCHEME = "s3://"
# Letters that need no quoting in a URL, in a glob pattern or in SQL.
OBJECT_STORE_ROOT = re.compile(r"s3://[a-z0-9][a-z0-9.-]+(/[\w=-][\w.=-]*)*/?", re.ASCII)
# deltalake and DuckDB do not find their own files again below a folder with one of the first seven, or with control
# characters, in its name (1.6.6, 1.5.5). The others are patterns to DuckDB, or templates to dbt.
UNUSABLE = re.compile(r"[%#\\\[\]|^*?{}\"\x00-\x1f\x7f]")
# User and password in an address.
CREDENTIALS = re.compile(r"(?<=//)[^/\s]*@")
# Two tries of five seconds: whoever waits at a terminal is told soon that a server is down.
CONNECT_S, ANSWER_S, TRIES = 3, 5, 2
# The writer is more patient: a batch of quotes cannot be captured again.
DELTA_PATIENCE = {"connect_timeout": "5s", "timeout": "30s", "max_retries": "6", "retry_timeout": "30s"}

# How the three clients (pyarrow, deltalake, DuckDB) quote the store's error code.
ERROR_CODE = re.compile(r"AWS Error (\w+) during|<Code>(\w+)</Code>|\(HTTP \d+ [^)]*\)\s+(\w+):")
UNREACHABLE = re.compile(r"error sending request|Could not establish connection|Could not connect|Connection error")
BAD_CREDENTIALS = ("invalidaccesskeyid", "signaturedoesnotmatch", "expiredtoken", "invalidtoken")
LOST_CHECKPOINT = "InvalidCheckpoint"
FORBIDDEN = "lacked the necessary privileges"
# As Linux and macOS number them: no space left, quota exceeded.
FULL = re.compile(r"No space left|[Qq]uota exceeded|\(os error (28|122|69)\)")
# What link() fails with where there are no hard links: a commit of deltalake is one.
NO_LINKS = re.compile(r"Unable to rename file.*\(os error (1|38|45|95)\)", re.DOTALL)
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
BACKTRACE = re.compile(r"\n\s*(0: |stack backtrace|LINE \d+: ).*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Access:
    """How the object store is reached. `endpoint` is ``host`` or ``host:port``, None for AWS itself."""

    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    session_token: str = field(repr=False)
    region: str
    endpoint: str | None
    tls: bool

    @property
    def url(self) -> str:
        """The endpoint as a person writes it."""
        return f"http{'s' if self.tls else ''}://{self.endpoint}" if self.endpoint else f"AWS S3 in {self.region}"


def access() -> Access:
    """What the environment says. Raises ObjectStoreError when it holds no credentials or no usable endpoint."""
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", "").rstrip("/"))
    if "@" in endpoint.netloc:
        raise ObjectStoreError(
            f"AWS_ENDPOINT_URL ({masked(endpoint.geturl())}) holds a user or a password, which no S3 server reads: "
            "take it out; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are its place"
        )
    if endpoint != urlsplit("") and (endpoint.scheme not in ("http", "https") or not endpoint.netloc or endpoint.path):
        raise ObjectStoreError("AWS_ENDPOINT_URL is no address: write it like https://storage.example.com:9000")
    key_id, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not key_id or not secret:
        raise ObjectStoreError(
            "no credentials for s3://: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (a profile, a login or a role "
            'becomes that by `eval "$(aws configure export-credentials --format env)"`)'
        )
    return Access(
        key_id,
        secret,
        os.environ.get("AWS_SESSION_TOKEN", ""),
        os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        endpoint.netloc or None,
        endpoint.scheme != "http",
    )


# -- roots -------------------------------------------------------------------------------------------------------------


def is_object_store(root: str) -> bool:
    """Whether the objects under `root` are reached by ``s3://``."""
    return root.startswith(SCHEME)


def checked(root: str | Path) -> str:
    """`root` as it is kept: as written, an object store's without a slash at its end. Raises UnusableRoot."""
    text = str(root)
    if is_object_store(text):
        if not OBJECT_STORE_ROOT.fullmatch(text):
            raise UnusableRoot(
                f"{masked(text)} is no root of a lake: write s3://bucket/prefix, in letters, digits and . _ = -"
            )
        return text.rstrip("/")
    if "://" in text:
        raise UnusableRoot(f"{masked(text)} is no root of a lake: give a folder, or s3://bucket/prefix")
    if found := UNUSABLE.search(text) or UNUSABLE.search(str(Path(text).absolute())):
        raise UnusableRoot(
            f"{text!r} is no root of a lake: a path with {found[0]!r} means something else to Delta, DuckDB or dbt; "
            "choose a folder without it"
        )
    return text


def masked(text: str) -> str:
    """`text` without the users and passwords of addresses in it."""
    return CREDENTIALS.sub("***@", text)


def absolute(root: str | Path) -> str:
    """`root` as other folders see it too."""
    text = checked(root)
    return text if is_object_store(text) else str(Path(text).resolve())


def require_reachable(root: str) -> None:
    """Raise ObjectStoreError unless what is under `root` can be listed. A folder that is not there is none's fault."""
    if is_object_store(root):
        with explained(root):
            _folders(*_store(root))


def require_writable(root: str, name: str) -> None:
    """Raise LakeError when the folder of table `name`, or of its log, may not be written: deltalake panics there."""
    if is_object_store(root):
        return
    for folder in (Path(root) / name, Path(root) / name / "_delta_log"):
        if folder.exists() and not os.access(folder, os.W_OK):
            reason = "Read-only file system" if os.statvfs(folder).f_flag & os.ST_RDONLY else "Permission denied"
            raise LakeError(
                f"{folder} may not be written ({reason}): nothing that was committed is lost; make it writable, then "
                "run the same command again"
            )


def require_links(root: str) -> None:
    """Raise Damaged when the file system that holds, or would hold, the folder `root` makes no hard links."""
    if is_object_store(root):
        return
    folder = Path(root).absolute()
    while not folder.is_dir():
        folder = folder.parent
    draft = folder / f".chainlake-{uuid4().hex}"
    linked = draft.with_suffix(".link")
    try:
        draft.touch()
        os.link(draft, linked)
    except OSError as error:
        if error.filename2 is None:
            # The folder may not be written, which is another matter.
            return
        raise Damaged(_no_links(str(folder))) from None
    finally:
        for file in (linked, draft):
            with suppress(OSError):
                file.unlink()


def _no_links(root: str) -> str:
    return (
        f"the file system of {root} makes no hard links, and each commit needs one: keep the lake on another, such as "
        "ext4, xfs or APFS, or in an object store"
    )


# -- small objects -----------------------------------------------------------------------------------------------------


def read_object(root: str, name: str) -> bytes:
    """The content of an object. Raises FileNotFoundError, or ObjectStoreError."""
    if not is_object_store(root):
        return (Path(root) / name).read_bytes()
    with explained(root):
        store, folder = _store(root)
        try:
            with store.open_input_stream(f"{folder}/{name}") as stream:
                return bytes(stream.readall())
        except OSError as error:
            # The answer to HEAD has no body, and does not tell a missing bucket or a wrong key; that to a listing does.
            if "NETWORK_CONNECTION" not in str(error):
                _folders(store, folder)
            raise


def write_object(root: str, name: str, content: bytes) -> None:
    """Make or replace an object: whoever reads it has the old content or the new one. Raises ObjectStoreError."""
    if is_object_store(root):
        with explained(root):
            store, folder = _store(root)
            with store.open_output_stream(f"{folder}/{name}") as stream:
                stream.write(content)
        return
    Path(root).mkdir(parents=True, exist_ok=True)
    draft = Path(root) / f"{name}.{uuid4().hex}.new"
    draft.write_bytes(content)
    draft.replace(Path(root) / name)


def total_size(root: str, names: Iterable[str]) -> int:
    """Bytes of the objects `names` together; one that is not there counts as nothing. Raises ObjectStoreError."""
    if not is_object_store(root):
        files = [Path(root) / name for name in names]
        return sum(file.stat().st_size for file in files if file.exists())
    with explained(root):
        store, folder = _store(root)
        return sum(info.size or 0 for info in store.get_file_info([f"{folder}/{name}" for name in names]))


def table_names(root: str) -> list[str]:
    """Names (``schema/table``) of the Delta tables under `root`, sorted. Raises ObjectStoreError."""
    if not is_object_store(root):
        return sorted(str(log_folder.parent.relative_to(root)) for log_folder in Path(root).glob("*/*/_delta_log"))
    with explained(root):
        store, folder = _store(root)
        tables = [table for schema in _folders(store, folder) for table in _folders(store, schema)]
        logs = store.get_file_info([f"{table}/_delta_log" for table in tables])
    return sorted(
        table.removeprefix(f"{folder}/")
        for table, log in zip(tables, logs, strict=True)
        if log.type == fs.FileType.Directory
    )


def data_files(root: str, name: str) -> bool:
    """Whether the folder of the table `name` holds Parquet files. Raises ObjectStoreError."""
    with explained(root):
        files, folder = filesystem(root)
        found = listed(files, f"{folder}/{name}", recursive=True)
    return any(info.type == fs.FileType.File and info.extension == "parquet" for info in found)


def filesystem(root: str) -> tuple[fs.FileSystem, str]:
    """The file system that holds the objects under `root`, and the path of `root` in it."""
    return _store(root) if is_object_store(root) else (fs.LocalFileSystem(), absolute(root))


def _store(root: str) -> tuple[fs.S3FileSystem, str]:
    found = access()
    store = fs.S3FileSystem(
        access_key=found.key_id,
        secret_key=found.secret,
        session_token=found.session_token or None,
        region=found.region,
        endpoint_override=found.endpoint,
        scheme="https" if found.tls else "http",
        connect_timeout=CONNECT_S,
        request_timeout=ANSWER_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=TRIES),
        # One request writes a small object, so that it is there as a whole or not at all.
        allow_delayed_open=True,
    )
    return store, root.removeprefix(SCHEME)


def _folders(store: fs.S3FileSystem, folder: str) -> list[str]:
    try:
        # Not `allow_not_found`, which forgives a missing bucket too.
        found = store.get_file_info(fs.FileSelector(folder))
    except FileNotFoundError:
        return []
    return [info.path for info in found if info.type == fs.FileType.Directory]


# -- what Delta and DuckDB need ----------------------------------------------------------------------------------------


def delta_options(root: str) -> dict[str, str] | None:
    """Storage options of deltalake for the tables under `root`; the credentials it takes from the environment itself.

    A commit is a conditional put (``If-None-Match: *``), so writers need no lock table.
    """
    if not is_object_store(root):
        return None
    found = access()
    options = {"aws_conditional_put": "etag", "aws_region": found.region, **DELTA_PATIENCE}
    if found.endpoint:
        options |= {"aws_endpoint_url": found.url, "aws_allow_http": "false" if found.tls else "true"}
    return options


def duckdb_secret(root: str) -> dict[str, str | bool]:
    """Options of DuckDB's secret of type s3 for the objects under `root`."""
    found = access()
    options: dict[str, str | bool] = {
        "key_id": found.key_id,
        "secret": found.secret,
        "region": found.region,
        "use_ssl": found.tls,
        "scope": f"{root}/",
    }
    if found.session_token:
        options["session_token"] = found.session_token
    if found.endpoint:
        options |= {"endpoint": found.endpoint, "url_style": "path"}
    return options


# -- errors ------------------------------------------------------------------------------------------------------------


@contextmanager
def explained(root: str) -> Iterator[None]:
    """What fails inside for want of room, of a file or of an object store becomes one line with the next step.

    The texts of the libraries run over many lines and can quote the signed request. Raises Damaged or ObjectStoreError;
    other errors pass as they are.
    """
    try:
        yield
    except (CommitFailedError, TableNotFoundError):
        raise
    except (OSError, DeltaError, duckdb.Error) as error:
        text = str(error)
        if is_object_store(root) and (message := _explanation(root, text)):
            raise ObjectStoreError(message) from None
        if message := _damage(root, text, native=not isinstance(error, OSError)):
            raise Damaged(message) from None
        raise


def plain(error: BaseException) -> str:
    """The message of an error of deltalake or DuckDB in one line, without its backtrace and colours."""
    return " ".join(BACKTRACE.sub("", ESCAPES.sub("", str(error))).split()) or type(error).__name__


def is_native(error: BaseException) -> bool:
    """Whether `error` comes from deltalake or DuckDB; a panic of their Rust is one too."""
    return isinstance(error, DeltaError | duckdb.Error) or type(error).__name__ == "PanicException"


def _damage(root: str, text: str, *, native: bool) -> str | None:
    if LOST_CHECKPOINT in text:
        return (
            f"a checkpoint of a table in {root} is missing: once its hint, the file _delta_log/_last_checkpoint, "
            "is deleted, the table is read from its commits, and `chainlake compact` writes a new one"
        )
    if FULL.search(text):
        return (
            f"No space left on the file system of {root}: nothing that was committed is lost, and what was about to be "
            "written is not in the lake; make room (`chainlake disk`, `retention` and `vacuum`), then run the same "
            "command again"
        )
    if NO_LINKS.search(ESCAPES.sub("", text)):
        return _no_links(root)
    return log_damage(root) if native else None


def require_whole_logs(root: str) -> None:
    """Raise Damaged when a table on a disk has an empty commit, of which no engine says anything."""
    if is_object_store(root):
        return
    for name in table_names(root):
        if found := empty_commit(Path(root) / name):
            raise Damaged(found)


def log_damage(root: str, name: str | None = None) -> str | None:
    """What is wrong with the log of table `name`, or of any under `root`, with the remedy; None: nothing."""
    files, folder = filesystem(root)
    with suppress(OSError, LakeError):
        names = table_names(root) if name is None else [name]
        return next(filter(None, (damage(files, f"{folder}/{each}") for each in names)), None)
    return None


def _explanation(root: str, text: str) -> str | None:
    at = access().url
    found = ERROR_CODE.search(text)
    code = found[found.lastindex or 0].replace("_", "").lower() if found else ""
    if code == "networkconnection" or (not code and UNREACHABLE.search(text)):
        return f"{at} does not answer: check AWS_ENDPOINT_URL and that the server runs, then run the same command again"
    if code == "nosuchbucket":
        bucket = root.removeprefix(SCHEME).partition("/")[0]
        return f"there is no bucket {bucket} at {at}: make it, or correct lake.root ({root})"
    if code in BAD_CREDENTIALS:
        return f"{at} does not accept the credentials: check AWS_ACCESS_KEY_ID and the variables beside it"
    if code == "accessdenied" or FORBIDDEN in text:
        return f"{at} forbids this on {root}: its user needs to list, read, write and delete there"
    return f"{at} answered {code} for {root}: see docs/object-store.md" if code else None
