"""Progress of a search, from the lines that it prints."""

import re

_LINE = re.compile(r"\s*\d+:\d\d  trial (?P<number>\d+) +(?P<text>.*)")
_EPOCH = re.compile(r"epoch (?P<epoch>\d+)/")
_ENDED = re.compile(r"(complete|pruned|failed)\b")


class Journal:
    """Progress of one search over all its launches."""

    def __init__(self) -> None:
        self._epochs: dict[int, int] = {}  # newest epoch of each trial, -1 if none
        self._ended: set[int] = set()
        self._kills: dict[int, int] = {}  # since the newest epoch of a trial

    def add(self, line: str) -> None:
        """Record a line; lines that are not about a trial are ignored."""
        found = _LINE.match(line)
        if found is None:
            return
        number, text = int(found["number"]), found["text"]
        newest = self._epochs.setdefault(number, -1)
        epoch = _EPOCH.match(text)
        if epoch and int(epoch["epoch"]) > newest:
            self._epochs[number], self._kills[number] = int(epoch["epoch"]), 0
        if _ENDED.match(text):
            self._ended.add(number)

    @property
    def progress(self) -> int:
        """Number of finished epochs of all trials, including the untrained networks."""
        return sum(newest + 1 for newest in self._epochs.values())

    @property
    def num_ended(self) -> int:
        """Number of ended trials."""
        return len(self._ended)

    def record_kill(self) -> None:
        """Record a kill, which may have hit any running trial."""
        for number in self._epochs.keys() - self._ended:
            self._kills[number] = self._kills.get(number, 0) + 1

    @property
    def most_kills_since_epoch(self) -> int:
        """Largest number of kills since the newest epoch, over the unfinished trials."""
        return max((self._kills.get(number, 0) for number in self._epochs.keys() - self._ended), default=0)
