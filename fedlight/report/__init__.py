"""Reading finished runs, and what tables, pictures and a page say of them."""
