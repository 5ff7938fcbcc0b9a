"""Programs over documented interfaces."""
