"""What a lab has paid for work like some work that it offers: before, and on other projects."""
