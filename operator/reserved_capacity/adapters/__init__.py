"""The only I/O there is: each module one outside party, none of them knows another; `main` puts them together."""
