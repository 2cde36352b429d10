"""What is trained: one file a net, and the draws and losses they share."""
