"""What happened: observers that write Records down."""
