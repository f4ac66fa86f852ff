-- Who did what with which product when. Copy this file, put your own table and columns in, keep the names after AS.
SELECT user_id,
       product_id,
       event_type,                               -- purchase, view, add_to_cart, wishlist, rating, return
       occurred_at,                              -- UTC
       quantity,
       value,
       order_id
FROM events
-- WHERE occurred_at >= :since                   -- in your copy: a night reads only what is new
ORDER BY user_id, occurred_at, product_id, event_type, order_id   -- not needed in your copy
