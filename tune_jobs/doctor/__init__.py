"""`--doctor`: read-only checks of the installation, the machine and the locations in the flags."""
