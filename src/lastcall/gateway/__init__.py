"""Exchanges to applications and back."""
