"""What a CSV file is and how one is read: pure, for whoever takes files in or reads them."""
