"""Incidents made for real: machines on which something restarts php-fpm under load, and the truth about each."""
