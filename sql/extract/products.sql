-- Products as recsys reads them. Copy this file, put your own table and columns in, keep the names after AS.
SELECT product_id,
       title,
       description,
       brand,
       category,
       price,
       currency,
       image,
       available,
       group_id,
       CAST(attributes AS TEXT) AS attributes,   -- a JSON object: {"colour": "red", "size": ["S", "M"]}
       created_at
--   , updated_at                                -- in your copy, with the line below: when the product last changed
FROM products
-- WHERE updated_at >= :since                    -- in your copy: a night reads only what has changed
ORDER BY product_id
