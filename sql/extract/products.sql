-- Products. Copy this file, insert your own table and columns, keep the names after AS.
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
--   , updated_at                                -- in your copy, with the line below: time of the last change
FROM products
-- WHERE updated_at >= :since                    -- in your copy: nightly runs read only changed products
ORDER BY product_id
