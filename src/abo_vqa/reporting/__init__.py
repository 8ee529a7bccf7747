"""What people read: figures, tables, the report, the prediction browser, the cards."""
