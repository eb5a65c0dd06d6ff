"""The commands: one thin module each, with a click command as its attribute `command`."""
