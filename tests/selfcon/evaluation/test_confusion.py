import json

import torch

from selfcon.evaluation.confusion import MAX_CLASSES, MAX_PAIRS, Confusion, confusion_of


def test_every_evaluated_image_is_counted_once() -> None:
    labels_M, named_M = torch.tensor([0, 0, 0, 1, 1, 3]), torch.tensor([0, 1, 1, 1, 0, 2])
    found = confusion_of(named_M, labels_M, num_classes=4)
    assert found is not None
    assert found.totals == (3, 2, 0, 1)
    assert found.correct == (1, 1, 0, 0)
    assert found.pairs == ((0, 1, 2), (1, 0, 1), (3, 2, 1))


def test_confusion_survives_a_round_trip_through_json() -> None:
    generator = torch.Generator().manual_seed(0)
    labels_M, named_M = torch.randint(0, 7, (2, 100), generator=generator)
    found = confusion_of(named_M, labels_M, num_classes=7)
    assert found is not None
    assert Confusion.from_json(json.loads(json.dumps(found.as_json()))) == found
    assert sum(found.totals) == sum(found.correct) + sum(count for *_, count in found.pairs) == 100


def test_only_the_most_frequent_pairs_are_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    labels_M = torch.randint(0, 100, (5000,), generator=generator)
    named_M = torch.randint(0, 100, (5000,), generator=generator)
    labels_M[:50], named_M[:50] = 98, 99
    found = confusion_of(named_M, labels_M, num_classes=100)
    assert found is not None
    assert len(found.pairs) == MAX_PAIRS
    assert found.pairs[0][:2] == (98, 99)
    assert len(json.dumps(found.as_json())) < 30_000  # what a study stores with a trial


def test_too_many_classes_give_none_and_the_largest_result_fits_64_kb() -> None:
    labels_M = torch.arange(MAX_CLASSES).repeat(50)
    found = confusion_of(labels_M.roll(1), labels_M, num_classes=MAX_CLASSES)
    assert found is not None
    assert len(json.dumps(found.as_json())) < 60_000
    assert confusion_of(labels_M, labels_M, num_classes=MAX_CLASSES + 1) is None
