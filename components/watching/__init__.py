"""What a run and its stages have come to, as their files tell it; reads only, and needs neither torch nor a server."""
