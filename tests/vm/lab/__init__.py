"""The lab: virtual machines that boot as boards do, and a hub for them. tests/vm/run is its command line."""
