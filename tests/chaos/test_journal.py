from .journal import Journal

LINES = """
chaos: 3 trials, 2 at once (2 CPUs / (1 worker x 1 CPU) = 2)
  0:01  trial 0   exit_stages [1]  temperature 0.1
  0:07  trial 1   exit_stages [2]  temperature 0.2
  0:09  trial 0   epoch 0/6  val/top1 0.7875  untrained
  0:10  trial 0   epoch 1/6  val/top1 0.8875  loss 5.061
  0:11  trial 0   stopped, will be resumed
  0:11  trial 0   resumes after epoch 1, attempt 2: exit_stages [1]  temperature 0.1
  0:15  trial 0   epoch 1/6  val/top1 0.8875  loss 5.061
""".splitlines()


def journal_of(*lines: str) -> Journal:
    journal = Journal()
    for line in lines:
        journal.add(line)
    return journal


def test_a_repeated_epoch_does_not_count() -> None:
    assert journal_of(*LINES).progress == 2


def test_a_trial_has_ended_when_its_result_is_printed() -> None:
    ends = ("  0:20  trial 1   pruned (rung) after epoch 3", "  1:20  trial 0   complete  0.9944")
    assert journal_of(*LINES).num_ended == 0
    assert journal_of(*LINES, *ends).num_ended == 2


def test_kills_count_until_the_next_new_epoch_of_a_running_trial() -> None:
    journal = journal_of(*LINES)
    journal.record_kill()
    journal.add("  0:16  trial 0   epoch 1/6  val/top1 0.8875  loss 5.061")
    journal.record_kill()
    assert journal.most_kills_since_epoch == 2
    journal.add("  0:17  trial 0   epoch 2/6  val/top1 0.9  loss 5.061")
    assert journal.most_kills_since_epoch == 2  # trial 1 has no epoch yet
    journal.add("  0:18  trial 1   failed (worker lost): gone")
    assert journal.most_kills_since_epoch == 0
