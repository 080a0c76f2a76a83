"""The command `doctor`: what `check` cannot see, because it is outside of the configuration."""
