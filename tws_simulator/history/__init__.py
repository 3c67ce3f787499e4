"""Historical data: what is asked for, the bars, and how often one may ask."""
