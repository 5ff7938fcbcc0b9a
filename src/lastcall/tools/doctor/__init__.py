"""`lastcall doctor`: finds, in the configuration of others and of lastcall, what will cut or lose a request one day."""
