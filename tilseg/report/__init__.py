"""`report.html`: a result on one page, for people who look rather than read."""
