-- Events of users on products. Copy this file, insert your own table and columns, keep the names after AS.
SELECT user_id,
       product_id,
       event_type,                               -- purchase, view, add_to_cart, wishlist, rating, return
       occurred_at,                              -- UTC
       quantity,
       value,
       order_id
FROM events
-- WHERE occurred_at >= :since                   -- in your copy: nightly runs read only new events
ORDER BY user_id, occurred_at, product_id, event_type, order_id   -- not needed in your copy
