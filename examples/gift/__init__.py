"""The gift service: one present, two ledgers. See README.md beside this file."""
