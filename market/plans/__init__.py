"""Plans: kept between matching runs, answering whoever comes, leaves or says no within a second."""
