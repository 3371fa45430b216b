"""What a search has said so far: how far it is, and which of its trials are hurt."""

import re

_LINE = re.compile(r"\s*\d+:\d\d  trial (?P<number>\d+) +(?P<text>.*)")
_EPOCH = re.compile(r"epoch (?P<epoch>\d+)/")
_ENDED = re.compile(r"(complete|pruned|failed)\b")


class Journal:
    """Reads the lines of all launches of one search."""

    def __init__(self) -> None:
        self._epochs: dict[int, int] = {}  # the newest of each trial, -1 before the first
        self._ended: set[int] = set()
        self._blows: dict[int, int] = {}  # since a trial's newest epoch

    def add(self, line: str) -> None:
        """Take note of a line; what is not about a trial is passed over."""
        found = _LINE.match(line)
        if found is None:
            return
        number, text = int(found["number"]), found["text"]
        newest = self._epochs.setdefault(number, -1)
        epoch = _EPOCH.match(text)
        if epoch and int(epoch["epoch"]) > newest:
            self._epochs[number], self._blows[number] = int(epoch["epoch"]), 0
        if _ENDED.match(text):
            self._ended.add(number)

    @property
    def progress(self) -> int:
        """How many epochs all trials together have made, the untrained networks included."""
        return sum(newest + 1 for newest in self._epochs.values())

    @property
    def num_ended(self) -> int:
        """How many trials have ended."""
        return len(self._ended)

    def struck(self) -> None:
        """Take note that a part of a running trial, perhaps of every one, was killed."""
        for number in self._epochs.keys() - self._ended:
            self._blows[number] = self._blows.get(number, 0) + 1

    @property
    def most_blows(self) -> int:
        """The most blows that an unfinished trial has taken since its newest epoch."""
        return max((self._blows.get(number, 0) for number in self._epochs.keys() - self._ended), default=0)
