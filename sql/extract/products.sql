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
FROM products
ORDER BY product_id
