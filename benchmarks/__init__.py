"""What lastcall costs, beside what others cost. See README.md."""
