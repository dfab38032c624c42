"""sentryfw-link: the program that carries signed entries between the daemon and a hub."""
