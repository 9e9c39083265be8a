"""Pages that need nothing else: no server, no request, one file to send on."""
