"""What the commands do, independent of how they are typed."""
