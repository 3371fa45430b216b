"""What `--doctor` looks at: the installation, the machine, and what the flags name. It changes nothing."""
