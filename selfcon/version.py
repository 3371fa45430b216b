"""The version of the method and of the platform, the one place that says it."""

VERSION = "0.2.0"
