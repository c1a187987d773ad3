"""The machine below everything else: files, directories, deletion, sockets. Imports only `tidehub.errors`."""
