"""One attempt of a trial: Ray Tune schedules it, Ray Train runs it, its workers train."""
