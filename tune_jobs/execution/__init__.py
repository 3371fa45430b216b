"""Execution of trials: Ray Tune schedules attempts, Ray Train runs them, workers train."""
