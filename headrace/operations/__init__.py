"""Operations on published tables: maintenance, audit of the star, retention, reset."""
