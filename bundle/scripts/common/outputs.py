"""One rule for all outputs: only a file that we wrote, for the same request or one that may be replaced, is replaced or removed."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from .errors import RequestError
from .files import guarded_by, remove_partial
from .journal import ANY, SUFFIX, Journal, digests_of, read_journals
from .lock import folder_lock, refuse_foreign_lock, refuse_held
from .ranks import is_first
from .same_request import difference, noted, refuse_another


@dataclass(frozen=True)
class Found:
    """What a run may find of an earlier one, and take for its own.

    Attributes:
        continues: the run goes on with what lies there, as the caller has checked; the request is then not compared.
        adopted: files that the caller has checked to be ours, whatever the journal says.
        below: folders below the outputs hold runs of other stages that belong to this one: they are judged and replaced with it.
    """

    continues: bool = False
    adopted: Iterable[str] = ()
    below: bool = False


class HeldOutputs:
    """The outputs of one stage in one folder, for one run.

    Made, it has looked at nothing; :meth:`check` looks at what lies there and writes nothing. Held, by ``with``, it locks the
    folder against a second run of the stage; the shards of one number hold it together. It then has removed what it may not mix
    with (of another request, with ``replace``), and what killed runs left half written. From then on :func:`.files.atomic_path`
    asks it before a file appears in the folder, so that a file that is not ours stays.

    A file is ours if it holds what the stage's journal says (:mod:`.journal`); an edited one is the user's.

    Args:
        folder: where the outputs go.
        stage: what writes them; names lock and journal.
        request: what decides the outputs, by name; for the message, and to be compared with that of the earlier run.
        writes: names that will be written, as far as they are known, relative to the folder: refused now if they are taken.
        replace: whether outputs of another request, and of other stages, may be replaced.
        found: what the run may find there besides outputs of the same request.
        shard: "i-of-n", of a stage that several runs write for at once.
        elsewhere: the remedy that puts the outputs elsewhere.

    Raises:
        RequestError: there is no folder. By :meth:`check`, and when it is held: the folder holds outputs of another request, or
            files of other people under names that will be written; another run holds it; or it cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        stage: str,
        request: Mapping[str, Any],
        *,
        writes: Iterable[str] = (),
        replace: bool = False,
        found: Found = Found(),
        shard: str = "",
        elsewhere: str = "name another --output_dir",
    ) -> None:
        if folder is None:  # an overlay needs the folder that its base can be without
            raise RequestError(f"no folder for what {stage} writes, expected one: {elsewhere}")
        self.folder = Path(folder).absolute()
        self.shown = Path(folder)
        self.stage = stage
        self.request = noted(request)
        self.writes = tuple(writes)
        self.replace = replace
        self.continues = found.continues
        self.adopted = frozenset(found.adopted)
        self.elsewhere = elsewhere
        self.name = f"{stage}.{shard}" if shard else stage
        self._who = stage.partition(".")[0]
        self._shard = shard
        self._below = found.below
        self._journals: list[Journal] = []
        self._checked = False
        self._stack = ExitStack()

    @property
    def before(self) -> list[Journal]:
        """What earlier runs of this stage left here, shards included, as :meth:`check` found it."""
        return [journal for journal in self._journals if journal.stage == self.stage]

    def check(self) -> None:
        """Look at what lies there; nothing is written. Of several processes the first one looks.

        Raises:
            RequestError: as above.
        """
        if not is_first():
            return
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise RequestError(f"{self.shown}: a file, expected a folder for the outputs: {self.elsewhere}")
        self._journals = read_journals(self.folder)
        refuse_foreign_lock(self.folder, self.name, elsewhere=self.elsewhere)
        self._require_same_request()
        for name in self.writes:
            self._require_ours(name)
        self._checked = True

    def hold_for(self, *steps: Callable[[], object]) -> None:
        """Take one step after the other while the folder is held; of several processes the first one holds it.

        Raises:
            RequestError: as above.
            OSError: the folder cannot be written.
        """
        with self if is_first() else nullcontext():
            for step in steps:
                step()

    def __enter__(self) -> "HeldOutputs":
        if not self._checked:
            self.check()
        with ExitStack() as stack:
            stack.enter_context(folder_lock(self.shown, self.name, elsewhere=self.elsewhere))
            for rival in self._rivals():
                refuse_held(self.shown, rival, elsewhere=self.elsewhere)
            self._journals = read_journals(self.folder)
            self._require_same_request()
            self._journal = self._begin()
            stack.enter_context(guarded_by(self))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._journal.finish()
        self._stack.close()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_stack": None}

    def join(self) -> None:
        """Watch over the folder in a process that works for the one that holds it, until it ends."""
        self._stack = ExitStack()
        self._stack.enter_context(guarded_by(self))

    def covers(self, path: Path) -> bool:
        """Whether a file lies in this folder."""
        return path.absolute().is_relative_to(self.folder)

    def admit(self, path: Path) -> None:
        """Refuse to write where a file lies that is not ours to replace; remove what a killed run left half written of it.

        Raises:
            RequestError: it is not ours.
        """
        name = self._name_of(path)
        self._require_ours(name)
        if path.parent.absolute() != self.folder:
            remove_partial(path.parent, {path.stem})

    def record(self, path: Path, partial: Path) -> None:
        """Note what is about to appear as ``path``.

        Raises:
            RequestError: a file that is not ours appeared there meanwhile.
        """
        name = self._name_of(path)
        self._require_ours(name)
        self._journal.add(name, *digests_of(partial), *(digests_of(path) if path.is_file() else ()))

    def wrote(self, name: str) -> None:
        """Note a file that is not written through this process: an HDF5 file, or a log that grows."""
        self._journal.add(name, *(() if name.endswith(".h5") else (ANY,)))

    def made_before(self, names: Iterable[str]) -> bool:
        """Whether an earlier run of this request came to its end and the files ``names`` are as it left them."""
        return any(
            journal.finished and self._is_of(journal) and all(journal.knows(name) for name in names)
            for journal in self.before
        )

    def _name_of(self, path: Path) -> str:
        return path.absolute().relative_to(self.folder).as_posix()

    def _require_same_request(self) -> None:
        if self.continues:
            return
        for journal in self.before:
            if self._is_of(journal):  # without a look at the files
                continue
            if self._shard or (not self.replace and any(map(_holds_files, [journal, *self._nested()]))):
                replaced = "run it once without --shard and with" if self.replace else "replace it with"
                remedy = f"{self.elsewhere}, or {replaced} --replace true"
                refuse_another(f"{self.shown}: what {self._who} wrote", journal.request, self.request, remedy=remedy)

    def _rivals(self) -> list[str]:
        """Names of the locks of runs that may not write at the same time: the whole stage, and shards of another number."""
        locks = (
            lock.name[1:].removesuffix(".lock").removesuffix(".soft")
            for lock in self.folder.glob(f".{self.stage}.*.lock")
        )
        shards = {name for name in locks if re.fullmatch(rf"{re.escape(self.stage)}\.\d+-of-\d+", name)}
        if not self._shard:
            return sorted(shards)
        number = self._shard.partition("-of-")[2]
        return [self.stage, *sorted(name for name in shards if not name.endswith(f"-of-{number}"))]

    def _nested(self) -> list[Journal]:
        """What the runs below wrote that belong to this one."""
        below = {path.parent for path in self.folder.glob(f"*/**/.*{SUFFIX}")} if self._below else ()
        return [journal for folder in sorted(below) for journal in read_journals(folder)]

    def _is_of(self, journal: Journal) -> bool:
        """Whether a journal is of this very request."""
        return not difference(journal.request, self.request)

    def _require_ours(self, name: str) -> None:
        """Refuse where ``name``, or something above it in the folder, is taken by what this run may not replace."""
        path = self.folder / name
        above = [self.folder / parent for parent in PurePosixPath(name).parents if parent.name]
        blocked = next((folder for folder in above if os.path.lexists(folder) and not folder.is_dir()), None)
        if blocked is None and (not os.path.lexists(path) or name in self.adopted or self._is_ours(name)):
            return
        taken, who = blocked or path, self._who
        writer = next((journal.stage for journal in self._journals if journal.knows(name)), None)
        if writer is None:
            reason = (
                f"is there already, and is not what {who} wrote (or was changed, or copied without the hidden files)"
            )
            remedy = f"{self.elsewhere}, or move it away"
        else:
            reason = f"was written by {writer}"
            remedy = f"{self.elsewhere}, or replace it with --replace true"
        raise RequestError(
            f"{self.shown / self._name_of(taken)}: {reason}; expected a name that is free or holds an output of {who}: {remedy}"
        )

    def _is_ours(self, name: str) -> bool:
        path = self.folder / name
        if self._below and any(journal.knows(path.name) for journal in read_journals(path.parent)):
            return True
        return any(journal.knows(name) for journal in self._journals if self.replace or journal.stage == self.stage)

    def _begin(self) -> Journal:
        """Start the journal of this run from those before, or, where they are of another request, remove what they list."""
        mine = Journal(self.folder / f".{self.name}{SUFFIX}", self.stage, self.request)
        for journal in self.before:
            if not self.continues and not self._is_of(journal):
                for nested in self._nested():
                    _remove(nested)
                _remove(journal)
                self._journals.remove(journal)
            elif journal.path == mine.path:
                mine.files |= journal.files
        mine.files |= {name: digests_of(self.folder / name) for name in self.adopted}
        top = (PurePosixPath(name) for name in (*mine.files, *self.writes))
        stems = {name.stem for name in top if len(name.parts) == 1}
        remove_partial(self.folder, {*stems, f".{self.name}.owner", f".{self.name}.outputs"})
        mine.start()
        self._journals = [journal for journal in self._journals if journal.path != mine.path] + [mine]
        return mine


def _holds_files(journal: Journal) -> bool:
    """Whether a file of a journal still is what it says."""
    return any(map(journal.knows, journal.files))


def _remove(journal: Journal) -> None:
    """Remove the files of a journal that still are what it says, the folders that they leave empty, and the journal."""
    for name in journal.files:
        path = journal.folder / name
        if journal.knows(name):
            path.unlink()
            for parent in PurePosixPath(name).parents:
                if parent.name and not any((journal.folder / parent).iterdir()):
                    (journal.folder / parent).rmdir()
    journal.path.unlink()
