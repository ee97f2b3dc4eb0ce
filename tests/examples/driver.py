# python3 driver.py BASE_URL ROOM_ID CONTENT
import json
import sys

from seed import send_message

print(json.dumps(send_message(sys.argv[2], sys.argv[3])))
