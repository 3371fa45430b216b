"""The version of selfcon and of tune_jobs, defined only here."""

VERSION = "0.2.0"
