"""Commands that show and change what runs, and the processes that keep it running."""
