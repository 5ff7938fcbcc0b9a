"""Stand-in; being written."""
def describe(pid: int, uid: int | None = None) -> str:
    return f"pid {pid} uid {uid}"
