-- The image makes the runtime database; the historical one stands beside it.
CREATE DATABASE historical;
