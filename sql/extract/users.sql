-- The users who shall get recommendations, also those who have not bought yet. Copy, adapt, keep the names after AS.
SELECT user_id,
       CAST(attributes AS TEXT) AS attributes    -- a JSON object: {"segment": "b2b"}
FROM users
ORDER BY user_id
