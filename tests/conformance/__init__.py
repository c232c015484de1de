"""What was promised, checked from outside: recorded vendors, documented requests, official clients."""
