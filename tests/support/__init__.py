"""Real neighbours for the tests: nginx, Apache, lighttpd, HAProxy, mongod, and lastcall itself."""
