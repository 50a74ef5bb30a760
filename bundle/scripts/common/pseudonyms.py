"""What slides, patients and places are called in what a stage writes: as they are, or by salted ids (docs/decisions/0018)."""

import hashlib
import hmac
import os
import secrets
import stat
from functools import cached_property
from pathlib import Path

from .errors import RequestError
from .journal import read_journals

KEY_BYTES = 32
DIGITS = 16  # of an id, 64 bits: among a million slides two share one with a chance of 3 in 10^8
NOT_TOLD = "not told, since it names the slide: the same command without --anonymise says it"
"""Instead of the reason why a slide failed."""

OF_REQUEST = "anonymise"
"""Under this name a request says by which key its outputs are anonymous."""


class Names:
    """The names of a stage's outputs; with ``anonymise`` each is a keyed hash (HMAC-SHA-256), the same for the same key.

    Args:
        anonymise: whether names are hidden.
        key_file: holds the key; made, readable by its user alone, by :meth:`keep` where it is missing.
        folder: of the outputs, in which the key must not lie.

    Raises:
        RequestError: (when a name is first asked for) there is no key file named, it is none of ours, others may read it, or it
            lies among the outputs; or it is missing although outputs that it made are there.
    """

    def __init__(
        self, anonymise: bool = False, key_file: str | Path | None = None, folder: str | Path | None = None
    ) -> None:
        self.anonymise = anonymise
        self._file = None if key_file is None else Path(key_file).expanduser()
        self._output = None if folder is None else Path(folder)

    def slide(self, slide_id: str) -> str:
        """Name of a slide."""
        return self._of("slide", slide_id)

    def patient(self, patient: str) -> str:
        """Name of a patient; none stays none."""
        return self._of("patient", patient) if patient else patient

    def place(self, path: str) -> str:
        """Where something lies."""
        return self._of("place", path)

    @property
    def request(self) -> dict[str, str]:
        """What a request says of them: which key; nothing where names are as they are."""
        return {OF_REQUEST: hashlib.sha256(b"key" + self._key).hexdigest()[:DIGITS]} if self.anonymise else {}

    def require_outside(self, folder: str | Path, option: str) -> None:
        """Refuse a folder of files with names among anonymous outputs.

        Raises:
            RequestError: it lies in the folder of the outputs.
        """
        if self.anonymise and self._output is not None and _lies_in(Path(folder), self._output):
            raise RequestError(
                f"{folder}: lies in the folder of the outputs, and its files are called by the slides; expected another folder "
                f"with --anonymise true: name one with {option}"
            )

    def keep(self) -> None:
        """Write the key where it is new, before anything that it names.

        Raises:
            OSError: it cannot be written.
        """
        if not self.anonymise or self._file is None or self._file.exists():
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(self._key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _of(self, kind: str, text: str) -> str:
        if not self.anonymise:
            return text
        digest = hmac.new(self._key, f"{kind} {text}".encode(errors="surrogateescape"), hashlib.sha256)
        return f"{kind}-{digest.hexdigest()[:DIGITS]}"

    @cached_property
    def _key(self) -> bytes:
        if self._file is None:
            raise RequestError(
                "anonymise is true and no key is named; expected --anonymise_key with a file of your own, which is made where "
                "it is missing, and is not passed on with the outputs"
            )
        if self._output is not None and _lies_in(self._file, self._output):
            raise RequestError(
                f"{self._file}: lies in the folder of the outputs, with which it would be passed on; expected a file elsewhere: "
                "name another --anonymise_key"
            )
        if self._file.exists():
            return _read(self._file)
        if self._output is not None and any(OF_REQUEST in one.request for one in read_journals(self._output)):
            raise RequestError(
                f"{self._file}: no such file, and {self._output} holds outputs that are anonymous by a key; expected that key, so "
                "that a slide keeps its id: name its file, or another --output_dir"
            )
        return secrets.token_bytes(KEY_BYTES)


def _read(path: Path) -> bytes:
    """Read a key.

    Raises:
        RequestError: the file is none, or others may read it.
    """
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise RequestError(
                f"{path}: others than its user may read it or write it, expected a key that nobody else has: chmod 600 it"
            )
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(
            f"{path}: no key ({type(error).__name__}), expected {2 * KEY_BYTES} hexadecimal digits, as --anonymise_key makes them: "
            "name that file, or one that is not there yet"
        ) from error
    if len(key) != KEY_BYTES:
        raise RequestError(
            f"{path}: a key of {len(key)} bytes, expected {KEY_BYTES}: name the file that --anonymise_key made"
        )
    return key


def _lies_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


AS_THEY_ARE = Names()
"""The names that everything has."""
